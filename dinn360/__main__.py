from dinn360.cli import main

main(prog_name="python -m dinn360")
