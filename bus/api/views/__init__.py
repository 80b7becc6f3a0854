"""The views of the REST API, one module for each kind of object. They read the request, call a service, and build the answer."""
