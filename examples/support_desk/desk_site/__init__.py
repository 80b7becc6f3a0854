"""The Django project of the support desk."""
