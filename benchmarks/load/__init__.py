"""The load client: raw websockets and HTTP, every answer checked, figures as JSON in the end."""
