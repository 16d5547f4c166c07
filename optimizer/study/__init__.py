"""What-if studies: many scenarios of one problem, each answered by a plan with a certificate, and what their differences prove."""
