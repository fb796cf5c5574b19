"""The doors of the hub: Unix socket, HTTP, WebSocket, Prometheus."""
