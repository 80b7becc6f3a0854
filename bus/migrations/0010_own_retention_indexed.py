"""An index of the channels with a retention of their own. Most large databases have few of them, so it is small.

On PostgreSQL it is built beside the running bus: nobody waits for it, and a second try cleans up after an interrupted one. With a
million channels it takes a second or two there, and as long on SQLite, where publishers wait meanwhile.
"""

from typing import Any

from django.db import migrations, models


class AddIndexBesideTheBus(migrations.AddIndex):
    """`AddIndex` that blocks no writers on PostgreSQL."""

    atomic = False

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor != "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
            return
        model = to_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            schema_editor.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{self.index.name}"')
            schema_editor.add_index(model, self.index, concurrently=True)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor != "postgresql":
            super().database_backwards(app_label, schema_editor, from_state, to_state)
            return
        model = from_state.apps.get_model(app_label, self.model_name)
        if self.allow_migrate_model(schema_editor.connection.alias, model):
            schema_editor.remove_index(model, self.index, concurrently=True)


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ('bus', '0009_handlers_decisions_amendments'),
    ]

    operations = [
        AddIndexBesideTheBus(
            model_name='channel',
            index=models.Index(condition=models.Q(('retention_count__isnull', False), ('retention_age__isnull', False), _connector='OR'), fields=['id'], name='bus_channel_own_retention'),
        ),
    ]
