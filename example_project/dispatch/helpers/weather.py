"""The weather at a departure airport, from a service that fails, hangs and limits its callers.

Asking changes nothing outside, so it may happen any number of times; the row is replaced, not
added. A 429 comes back after the time that the service names; everything else follows the task's
own retry policy.
"""

from http import HTTPStatus

from django.conf import settings
from django.utils import timezone

from example_project.dispatch.helpers import outgoing
from example_project.dispatch.models import WeatherReport
from tasks_app import Retry


def fetch_weather(job_id: int, icao: str) -> float:
    """Ask for the weather at one airport, note it, and return the temperature.

    Raises:
        Retry: The service limits its callers (429) and says when to come back.
        Unreachable, Refused: It did not answer, or not with the weather.
    """
    answer = outgoing.call("GET", f"{settings.DISPATCH['WEATHER_URL']}/{icao}")
    if answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        raise Retry(after=answer.retry_after(default=5.0))
    weather = answer.json()
    WeatherReport.objects.update_or_create(
        job_id=job_id,
        airport_id=icao,
        defaults={
            "temperature_c": weather["temperature_c"],
            "wind_kt": weather["wind_kt"],
            "fetched_at": timezone.now(),
        },
    )
    return float(weather["temperature_c"])
