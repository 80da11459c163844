"""The sessions behind `engines.session.open_session`, one module a runtime, and what each needs of a machine."""
