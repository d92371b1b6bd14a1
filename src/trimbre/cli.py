"""The `trimbre` command: thin verbs over the functions of the package."""

from typing import Annotated

from cyclopts import App, Parameter

DONE, MISSED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

app = App(
    name="trimbre",
    help="Make a trained speech recogniser smaller and faster: prune it, check that it still hears, load it anywhere.",
    help_format="markdown",
    version_flags=["--version"],
)
corpus = App(name="corpus", help="Bring speech into the form that training and evaluation read.")
app.command(corpus)

Json = Annotated[bool, Parameter(name="--json", negative="", help="Print one JSON object, the last line of stdout.")]
Seed = Annotated[int, Parameter(name="--seed", help="Every random draw follows from it.")]
