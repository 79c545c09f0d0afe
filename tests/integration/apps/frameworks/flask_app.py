"""Flask on werkzeug's server, a thread for each request; other servers import `app`."""

import sys

from flask import Flask, Response
from routes import chunks, work, work_outside

app = Flask(__name__)


@app.get("/alpha/<int:number>")
def alpha(number):
    return work("alpha") * number


@app.get("/beta/<int:number>")
def beta(number):
    return work("beta") * number


@app.post("/gamma")
def gamma():
    return work("gamma")


@app.get("/delta")
def delta():
    return Response("".join(chunks("delta")))


work_outside()

if __name__ == "__main__":
    app.run(port=int(sys.argv[1]), threaded=True)
