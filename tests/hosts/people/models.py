"""User models as projects have them. `AUTH_USER_MODEL` takes one; the others are ordinary tables."""

from __future__ import annotations

import datetime
import uuid
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.db import models


class ByEmail(BaseUserManager[Any]):
    """Its own way to make users; there is no `username`."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> Any:
        user = self.model(email=self.normalize_email(email), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user


class EmailUser(AbstractBaseUser, PermissionsMixin):
    """Logs in by e-mail, has a UUID, and does not stand in the admin."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    email = models.EmailField(unique=True)
    is_staff = models.BooleanField(default=False)
    objects: ClassVar[ByEmail] = ByEmail()

    USERNAME_FIELD = "email"


class PlainUser(AbstractBaseUser):
    """As the example of Django's documentation: no `PermissionsMixin`, a `has_perm` that says yes, a field that must be there."""

    email = models.EmailField(unique=True)
    date_of_birth = models.DateField(default=datetime.date(1990, 1, 1))
    is_active = models.BooleanField(default=True)
    is_admin = models.BooleanField(default=False)
    objects: ClassVar[ByEmail] = ByEmail()

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = ["date_of_birth"]

    def has_perm(self, perm: str, obj: Any = None) -> bool:
        return True

    def has_module_perms(self, app_label: str) -> bool:
        return True

    @property
    def is_staff(self) -> bool:
        return self.is_admin


class BareUser(AbstractBaseUser):
    """The least that Django takes for a user."""

    handle = models.CharField(max_length=40, unique=True)
    objects: ClassVar[BaseUserManager[Any]] = BaseUserManager()

    USERNAME_FIELD = "handle"
