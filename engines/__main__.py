from engines.cli import main

main(prog_name="python -m engines")
