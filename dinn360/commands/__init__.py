"""One module a command; `dinn360.cli` lists them."""
