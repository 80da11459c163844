"""Sessions: what all have (base.py), and one module a runtime. `engines.session.open_session` chooses among them."""
