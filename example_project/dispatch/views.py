"""The desk's page: start the work, watch it, look at what it made. Thin: it asks and renders."""

from django.conf import settings
from django.contrib import messages
from django.http import FileResponse, Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from example_project.dispatch.board import board, letter_text, letters
from example_project.dispatch.helpers import maps
from example_project.dispatch.helpers.airports_csv import BadFile
from example_project.dispatch.jobs import start_job
from example_project.dispatch.models import CountryMap
from tasks_app import accepted, status_token
from tasks_app.models import Outcome


@require_safe
def desk(request: HttpRequest) -> HttpResponse:
    """Show the page."""
    shown = board()
    job = shown["job"]
    report = Outcome.objects.filter(pk=job["report_id"]).first() if job else None
    context = {
        "board": shown,
        "flower_url": settings.DISPATCH["FLOWER_URL"],
        "report": report,
        # Visitors of the desk have no account: the token is their key to this one outcome.
        "token": report and status_token(report, may_cancel=True),
    }
    return render(request, "dispatch/desk.html", context)


@require_POST
def start(request: HttpRequest) -> HttpResponse:
    """Start a job over the uploaded file, or over the bundled airports.

    A browser is sent back to the page; a program is told where to follow the job.
    """
    upload = request.FILES.get("input")
    given = (upload.read(), upload.name or "upload") if upload else ()
    is_program = request.get_preferred_type(["text/html", "application/json"]) != "text/html"
    try:
        job = start_job(*given)
    except BadFile as error:
        if is_program:
            return JsonResponse({"error": str(error)}, status=400)
        messages.error(request, str(error))
    else:
        if is_program:
            return accepted(Outcome.objects.get(pk=job.report_id), request)
        messages.success(request, f"Started {job}.")
    return redirect("dispatch:desk")


@require_safe
def state(request: HttpRequest) -> JsonResponse:
    """Return what the page shows, for its live refresh."""
    response = JsonResponse(board())
    response["Cache-Control"] = "no-store"
    return response


@require_safe
def country_map(request: HttpRequest, country: str) -> FileResponse:
    """Return the picture of a country that has been drawn."""
    drawn = get_object_or_404(CountryMap, pk=country)
    try:
        return FileResponse(maps.path_of(drawn.country).open("rb"), content_type="image/png")
    except FileNotFoundError:
        raise Http404("The picture is not on this machine.") from None


@require_safe
def mail(request: HttpRequest, number: int) -> HttpResponse:
    """Show one letter of the demo's mailbox."""
    filed = letters()
    if number >= len(filed):
        raise Http404("No such letter.")
    letter = filed[number]
    context = {"letter": letter, "text": letter_text(letter)}
    return render(request, "dispatch/mail.html", context)
