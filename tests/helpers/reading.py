"""What a reader of an HTML page sees."""

import html
import re


def shown(page):
    """Return the text of a page: a line for each row of a table, with | between its cells."""
    body = re.sub(r"(?s)<style>.*?</style>|<svg.*?</svg>", "", page)
    body = re.sub(r"\s*</t[dh]>", " | ", re.sub(r"<tr>", "\n| ", re.sub(r"\n", "\v", body)))
    body = re.sub(r" +\|", " |", re.sub(r"<[^>]*>", "", body.replace("\v</tr>", "")))
    return html.unescape(body.replace("\v", "\n"))
