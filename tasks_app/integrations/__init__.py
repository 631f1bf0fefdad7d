"""What this app brings along for other packages; each module is loaded only beside its package."""

#: Packages that are installed as apps, or put into `MIDDLEWARE`, to give requests their ids.
ID_PACKAGES = ("django_guid", "django_structlog")
