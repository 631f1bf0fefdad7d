"""Two pages: one enqueues a call that fails, one fails itself."""

from django.contrib import admin
from django.http import HttpResponse
from django.urls import path

from tests.testapp.tasks import charge


def pay(request):
    """Enqueue a call that is declined, and answer with its id."""
    outcome = charge.enqueue(int(request.GET["order"]), card_token="canary-card", mood="decline")
    return HttpResponse(str(outcome.pk))


def break_down(request):
    """Fail."""
    raise LookupError("the page broke")


urlpatterns = [
    path("admin/", admin.site.urls),
    path("pay/", pay),
    path("break/", break_down),
]
