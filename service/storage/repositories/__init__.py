"""All queries of the service. Nothing else speaks SQL."""
