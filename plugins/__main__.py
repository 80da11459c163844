from plugins.cli import main

main(prog_name="python -m plugins")
