"""The commands beside training: restore, demo, serve, api-key, inspect and bundle."""

import typer

from service import (
    api_key_command,
    bundle_command,
    demo_command,
    import_command,
    inspect_command,
    restore_command,
    serve_command,
)

app = typer.Typer()
app.command()(restore_command.restore)
app.command()(demo_command.demo)
app.command()(serve_command.serve)
app.command()(api_key_command.api_key)
app.command()(inspect_command.inspect)

bundle = typer.Typer(name="bundle", help="Verify, show and import bundles.", no_args_is_help=True)
bundle.command()(bundle_command.verify)
bundle.command()(bundle_command.show)
bundle.command()(import_command.import_osdface)
bundle.command()(import_command.import_scrfd)
bundle.command()(import_command.import_arcface)
bundle.command()(import_command.import_fan)
app.add_typer(bundle)
