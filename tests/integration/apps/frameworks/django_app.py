"""Routes and views of the Django service, asynchronous and synchronous ones."""

from django.http import HttpResponse
from django.urls import path
from routes import work, work_async, work_outside


def alpha(_request, number):
    return HttpResponse(work("alpha") * number)


def beta(_request, slug):
    return HttpResponse(work("beta") + slug)


async def gamma(_request, number):
    return HttpResponse(await work_async("gamma") * number)


async def delta(_request, slug):
    return HttpResponse(await work_async("delta") + slug)


urlpatterns = [
    path("alpha/<int:number>", alpha),
    path("beta/<slug:slug>", beta),
    path("gamma/<int:number>", gamma),
    path("delta/<slug:slug>", delta),
]
work_outside()
