"""The commands that use a bundle: restore, inspect, demo, bundle and serve."""

import typer

from service import api_key_command, bundle_command, demo_command, restore_command, serve_command

app = typer.Typer()
app.command()(restore_command.restore)
app.command()(demo_command.demo)
app.command()(serve_command.serve)
app.command()(api_key_command.api_key)

bundle = typer.Typer(name="bundle", help="Verify, show and import bundles.", no_args_is_help=True)
bundle.command()(bundle_command.verify)
bundle.command()(bundle_command.show)
app.add_typer(bundle)
