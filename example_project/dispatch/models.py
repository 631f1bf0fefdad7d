"""What the desk knows: airports and what follows from them, jobs and what they did.

A ``Job`` is one run over one input file; everything it made points back to it. Unique constraints
stand where a repeated run must replace instead of add. ``LedgerEntry`` has none on purpose: money
booked twice must show as two rows.
"""

from django.db import models


class Job(models.Model):
    """One run of the desk over one input file."""

    source = models.CharField(max_length=200, help_text="Name of the input file.")
    header = models.TextField(help_text="First line of the input file.")
    seed = models.IntegerField(default=0, help_text="Decides which flights are planned.")
    root_id = models.UUIDField(null=True, help_text="The outcome from which all others came.")
    report_id = models.UUIDField(
        null=True, help_text="The outcome that waits for all others and tells how far they are."
    )
    request_id = models.CharField(
        max_length=64, blank=True, help_text="Shared by the request and all that it caused."
    )
    chunks_left = models.IntegerField(help_text="Chunks still to be imported.")
    created_at = models.DateTimeField(auto_now_add=True)
    planned_at = models.DateTimeField(
        null=True, help_text="When the work after import was laid out."
    )
    finished_at = models.DateTimeField(null=True, help_text="When the report was written.")

    def __str__(self) -> str:
        return f"job {self.pk}: {self.source}"


class Chunk(models.Model):
    """Some lines of the input file, waiting to be imported or imported."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="chunks")
    first_line = models.PositiveIntegerField(help_text="Number of its first line in the file.")
    text = models.TextField()
    airports = models.PositiveIntegerField(null=True, help_text="Airports read; null: not yet.")
    problems = models.PositiveIntegerField(null=True, help_text="Bad lines; null: not yet.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["job", "first_line"], name="one_chunk_per_line"),
        ]

    def __str__(self) -> str:
        return f"{self.job_id}, line {self.first_line} on"


class ImportProblem(models.Model):
    """A line of the input that is not an airport, and why."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="problems")
    line = models.PositiveIntegerField()
    reason = models.CharField(max_length=200)
    text = models.CharField(max_length=200, help_text="The beginning of the line.")

    class Meta:
        ordering = ["job", "line"]
        constraints = [
            models.UniqueConstraint(fields=["job", "line"], name="one_problem_per_line"),
        ]

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


class Airport(models.Model):
    """An aerodrome, known by its ICAO or local code."""

    icao = models.CharField(max_length=8, primary_key=True)
    iata = models.CharField(max_length=3, blank=True)
    name = models.CharField(max_length=200)
    city = models.CharField(max_length=100, blank=True)
    country = models.CharField(max_length=2, db_index=True, help_text="ISO 3166 code.")
    elevation_ft = models.FloatField(null=True)
    latitude = models.FloatField()
    longitude = models.FloatField()
    timezone = models.CharField(max_length=64, blank=True)

    class Meta:
        ordering = ["icao"]

    def __str__(self) -> str:
        return f"{self.icao} {self.name}"


class Alternate(models.Model):
    """Where a flight may divert to when an airport is closed; rank 1 is the nearest."""

    airport = models.ForeignKey(Airport, models.CASCADE, related_name="alternates")
    rank = models.PositiveSmallIntegerField()
    other = models.ForeignKey(Airport, models.CASCADE, related_name="alternate_for")
    distance_km = models.FloatField()

    class Meta:
        ordering = ["airport", "rank"]
        constraints = [
            models.UniqueConstraint(fields=["airport", "rank"], name="one_alternate_per_rank"),
        ]

    def __str__(self) -> str:
        return f"{self.airport_id} → {self.other_id}"


class CountryMap(models.Model):
    """The picture of one country's airports; the file lies in ``DISPATCH["MAPS_DIR"]``."""

    country = models.CharField(max_length=2, primary_key=True)
    job = models.ForeignKey(Job, models.CASCADE, related_name="maps")
    airports = models.PositiveIntegerField()
    drawn_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"map of {self.country}"


class StationManager(models.Model):
    """Who reads the briefing of a country."""

    country = models.CharField(max_length=2, unique=True)
    email = models.EmailField()

    def __str__(self) -> str:
        return self.email


class Briefing(models.Model):
    """A mail that a station manager was sent."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="briefings")
    manager = models.ForeignKey(StationManager, models.CASCADE, related_name="briefings")
    message_id = models.CharField(max_length=120)
    sent_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["job", "manager"], name="one_briefing_per_manager"),
        ]

    def __str__(self) -> str:
        return self.message_id


class Flight(models.Model):
    """A planned flight and the fuel it needs."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="flights")
    number = models.CharField(max_length=8)
    origin = models.ForeignKey(Airport, models.CASCADE, related_name="departures")
    destination = models.ForeignKey(Airport, models.CASCADE, related_name="arrivals")
    distance_km = models.FloatField()
    fuel_price = models.DecimalField(max_digits=12, decimal_places=2, help_text="Euro.")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["job", "number"], name="one_flight_per_number"),
        ]

    def __str__(self) -> str:
        return f"{self.number} {self.origin_id}–{self.destination_id}"


class LedgerEntry(models.Model):
    """Money paid for a flight's fuel. No unique constraint: a double booking must be visible."""

    flight = models.ForeignKey(Flight, models.CASCADE, related_name="ledger")
    idempotency_key = models.CharField(max_length=200)
    charge = models.CharField(max_length=64, help_text="The provider's number of the payment.")
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        verbose_name_plural = "ledger entries"

    def __str__(self) -> str:
        return f"{self.charge}: {self.amount}"


class WeatherReport(models.Model):
    """The weather at a departure airport, as the weather service told it."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="weather")
    airport = models.ForeignKey(Airport, models.CASCADE, related_name="weather")
    temperature_c = models.FloatField()
    wind_kt = models.FloatField()
    fetched_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["job", "airport"], name="one_weather_per_airport"),
        ]

    def __str__(self) -> str:
        return f"{self.airport_id}: {self.temperature_c} °C"


class Subscriber(models.Model):
    """Someone who wants to be told about one kind of event."""

    name = models.SlugField(unique=True)
    kind = models.CharField(max_length=40, help_text="The kind of event, e.g. flight.prepaid.")
    url = models.URLField()
    secret = models.CharField(max_length=200)

    def __str__(self) -> str:
        return self.name


class Delivery(models.Model):
    """One event for one subscriber; the body stays the same over all attempts."""

    job = models.ForeignKey(Job, models.CASCADE, related_name="deliveries")
    subscriber = models.ForeignKey(Subscriber, models.CASCADE, related_name="deliveries")
    event_id = models.CharField(max_length=100)
    body = models.TextField()
    delivered_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "deliveries"
        constraints = [
            models.UniqueConstraint(
                fields=["subscriber", "event_id"], name="one_delivery_per_event"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event_id} to {self.subscriber_id}"


class Report(models.Model):
    """The totals of a finished job."""

    job = models.OneToOneField(Job, models.CASCADE, related_name="report")
    totals = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return f"report of {self.job_id}"
