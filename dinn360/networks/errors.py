"""The one error of a network's config."""


class ConfigError(ValueError):
    """No network can be made of this: the message names the field, what was expected and what was found.

    Networks know nothing of users; where a config comes from one, `dinn360.configs` makes it their mistake.

    Attributes:
        about: the parameter of the function whose value is wrong; empty: the message says it.
        reason: the message without that.
    """

    def __init__(self, message: str, about: str = "") -> None:
        self.about, self.reason = about, message
        super().__init__(f"{about}: {message}" if about else message)
