"""How the web servers run, drain and replace their workers."""
