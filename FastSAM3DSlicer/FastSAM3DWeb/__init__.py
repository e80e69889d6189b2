"""The browser app: real MRML scenes in a web page, over the same logic as the Slicer module.

cli.py        the `fastsam3d web` command; checks.py: what it refuses
front/        what listens on the port: guards, gives each browser its own process, passes traffic on
worker.py     one such process: one scene, one model, one person
app.py        puts the worker's parts together
ui/           the page
"""
