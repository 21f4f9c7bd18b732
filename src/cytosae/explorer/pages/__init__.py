"""The pages, a module for each kind; `cytosae.explorer.app.PAGES` lists them."""
