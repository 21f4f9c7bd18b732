"""The explorer: a finished study in a browser, on this machine, without the internet.

A page is one function of the library and of what its URL asks for, which returns a view (`cytosae.views`); from it come
the page and its JSON twin under ``/api``, with the same parameters and in the same OpenAPI document::

    pages = Pages()

    @pages.add("/cells/{cell}", "cell.html.j2")
    def cell(library: Library, cell: str, latent: Annotated[int | None, Query(ge=0)] = None) -> CellPage:
        \"\"\"One cell: its image, and what lights up in it.\"\"\"
        return view_of_cell(library.dataset_of(cell), cell, latent)

The module with it goes to ``pages/``, its ``pages`` into `cytosae.explorer.app.PAGES`, the template (which extends
``base.html.j2``) to ``templates/``. An error of cytosae raised by the function becomes an answer of one sentence.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
