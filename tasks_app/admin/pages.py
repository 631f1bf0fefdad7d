"""
A page of the console: an address below the outcomes' admin, a right, a template.

`OutcomeAdmin.get_urls` serves each of them within the project's own admin site, so login, header,
theme and language are those of the site.
"""

from typing import Any, ClassVar

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseNotAllowed
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import URLPattern, path

from tasks_app.admin.rights import VIEW


class Page:
    """
    One page, made anew for each request.

    Attributes:
        name: Its address is reversed as `admin:tasks_app_<name>`.
        route: Below `admin/tasks_app/outcome/`, as Django's `path` reads it.
        title: Heading and name in the navigation.
        permission: Without it a GET is refused. A page that acts asks for more in `post`.
        template: Extends `admin/tasks_app/console.html`.
        is_in_navigation: False for pages that belong to something, such as a request's trace.
    """

    name: ClassVar[str]
    route: ClassVar[str]
    title: ClassVar[str]
    permission: ClassVar[str] = VIEW
    template: ClassVar[str]
    is_in_navigation: ClassVar[bool] = True

    def __init__(self, model_admin: Any, request: HttpRequest) -> None:
        self.model_admin = model_admin
        self.request = request

    @classmethod
    def address(cls, model_admin: Any) -> URLPattern:
        """Return the page's place in the URLconf of an admin site."""

        def view(request: HttpRequest, **named: Any) -> HttpResponseBase:
            return cls(model_admin, request).respond(**named)

        wrapped = model_admin.admin_site.admin_view(view)
        address: URLPattern = path(cls.route, wrapped, name=f"tasks_app_{cls.name}")
        return address

    def respond(self, **named: Any) -> HttpResponseBase:
        """Answer the request, or refuse it."""
        if not self.request.user.has_perm(self.permission):
            raise PermissionDenied
        if self.request.method in {"GET", "HEAD"}:
            return self.get(**named)
        if self.request.method == "POST":
            return self.post(**named)
        return HttpResponseNotAllowed(["GET", "HEAD", "POST"])

    def get(self, **named: Any) -> HttpResponseBase:
        return self.rendered(**self.context(**named))

    def post(self, **named: Any) -> HttpResponseBase:
        return HttpResponseNotAllowed(["GET", "HEAD"])

    def context(self, **named: Any) -> dict[str, Any]:
        """Return what the template shows beside what every page of the site does."""
        return {}

    def rendered(self, **context: Any) -> TemplateResponse:
        """Return the page with a context; a title in it goes before the class's own."""
        whole = {
            **self.model_admin.admin_site.each_context(self.request),
            "title": self.title,
            "opts": self.model_admin.opts,
            "page_name": self.name,
            **context,
        }
        return TemplateResponse(self.request, self.template, whole)
