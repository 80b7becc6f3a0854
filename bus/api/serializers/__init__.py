"""The shapes of requests and answers. They check requests and describe answers, which the services build."""
