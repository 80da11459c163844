"""The one error type that means "the person running this can fix it"."""


class UserError(Exception):
    """A user's mistake: a bad file, option or input.

    The message is one line that names the file or option, what was expected and what was found. Command lines
    print it and exit with status 2, without a traceback. Line breaks inside the message (a runtime's own
    text, a file name) are folded into spaces, so that the promise of one line holds.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))
