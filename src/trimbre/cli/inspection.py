"""`trimbre inspect`: what can be pruned in a model."""

from trimbre.cli.console import Device, Json, Seed, app, show


@app.command(
    help_epilogue="""Examples:

    trimbre inspect models/telephone-en --verify

    trimbre inspect nvidia/parakeet-ctc-0.6b --json"""
)
def inspect(model: str, /, *, verify: bool = False, device: Device = "auto", seed: Seed = 0, json: Json = False) -> int:
    """What can be pruned in a model: kinds of units, their number, and their share of parameters and MACs.

    Parameters
    ----------
    model
        Directory, or OWNER/NAME[@REVISION] on the Hub.
    verify
        Cut the model by random plans, drawn from --seed, and compare each with the same model behind gates.
    """
    from trimbre import api
    from trimbre.report.terminal import models

    found = api.inspect(model, verify=verify, seed=seed, device=device)
    return show(found, json, *models.inspection(found))
