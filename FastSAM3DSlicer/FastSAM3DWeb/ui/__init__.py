"""The page: Vue templates, put together and filled with the table of tools and views."""
