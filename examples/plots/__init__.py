"""How each experiment tells what it measured: its closing tables and its picture."""
