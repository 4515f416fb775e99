"""The report page: one HTML file that needs no network, from the certificates and the runs given to it."""

from idemvox.reports.page.document import Audio, report_page

__all__ = ["Audio", "report_page"]
