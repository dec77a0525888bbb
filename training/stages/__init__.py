"""One file a training stage; each is a command `honestface train NAME`."""
