"""The documentation as a site: `make docs`."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from generate import generate

generate()

project = "ntkengine"
author = "the ntkengine authors"
version = release = installed_version("ntkengine")

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # the tests run it, and hold it to what is shown
exclude_patterns = ["_build", "jupyter_execute"]
html_theme = "furo"
html_title = "ntkengine"
html_static_path: list[str] = []
# Links within the site, to files and to headings, are checked by every build; no other is followed.
linkcheck_ignore = [r"https?://.*"]
# A name of ours that is referred to and documented nowhere is a warning; other names are words of docstrings.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!ntkengine\.|service\.).*")]

# Written by hand in this project's own style, which is Markdown and not reStructuredText.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_default_options = {  # scikit-learn adds them, with links into its own documentation
    "exclude-members": "set_fit_request, set_predict_request, set_score_request, set_transform_request"
}
suppress_warnings = ["docutils"]
