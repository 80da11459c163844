"""The one error type that means "the person running this can fix it"."""


class UserError(Exception):
    """A user's mistake: a bad file, option or input.

    The message is one line that names the file or option, what was expected and what was found. Command lines
    print it and exit with status 2, without a traceback. Line breaks inside the message (a runtime's own
    text, a file name) are folded into spaces, so that the promise of one line holds.

    Attributes:
        about: the parameter whose value is wrong, as the function calls it that was given it; empty: none. A command
            line puts its own option of that name before the message ("--size: …"), Python the name itself ("size: …").
            Libraries name no options: they are called from Python as well, and by commands that call them otherwise.
        reason: the message without that.
    """

    def __init__(self, message: str, about: str = "") -> None:
        self.about, self.reason = about, " ".join(message.splitlines())
        super().__init__(f"{about}: {self.reason}" if about else self.reason)
