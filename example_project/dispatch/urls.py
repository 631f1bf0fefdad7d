"""Addresses of the desk's page."""

from django.urls import path

from example_project.dispatch import views

app_name = "dispatch"
urlpatterns = [
    path("", views.desk, name="desk"),
    path("start", views.start, name="start"),
    path("state.json", views.state, name="state"),
    path("maps/<slug:country>.png", views.country_map, name="map"),
    path("mails/<int:number>", views.mail, name="mail"),
]
