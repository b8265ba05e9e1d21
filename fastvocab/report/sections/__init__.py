"""What each section of the page shows, out of the records; None where there is nothing to show."""
