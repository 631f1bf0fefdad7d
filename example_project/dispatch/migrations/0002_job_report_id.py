from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("dispatch", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="job",
            name="report_id",
            field=models.UUIDField(
                help_text="The outcome that waits for all others and tells how far they are.",
                null=True,
            ),
        ),
    ]
