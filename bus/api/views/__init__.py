"""The views of the REST API, a module for each kind of thing. They read the request, call a service, and shape the answer."""
