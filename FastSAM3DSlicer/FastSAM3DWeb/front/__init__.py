"""The front: the only thing that listens. It knows browsers and processes, nothing of scans."""
