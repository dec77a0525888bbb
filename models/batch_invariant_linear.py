"""A linear layer whose result for an item never depends on how many others share the batch."""

from torch import Tensor, nn


class BatchInvariantLinear(nn.Linear):
    """`nn.Linear` on `[B, ..., in]` with the same parameters, bit-equal for any B on a CPU.

    A matrix product picks its kernel, and with it the order of its sums, by the number of rows, so `nn.Linear` gives an
    item other last bits in another batch. One product per item has the same shape always. Meant for small products:
    the gradient of the weight is held once per item.
    """

    def forward(self, input: Tensor) -> Tensor:
        items = input.reshape(input.shape[0], -1, self.in_features)
        result = items.bmm(self.weight.t().expand(len(items), -1, -1))
        if self.bias is not None:
            result = result + self.bias
        return result.reshape(*input.shape[:-1], self.out_features)
