package httpapi

import (
	"errors"
	"net/http"
	"strings"

	"github.com/decnet/enrich/store"
)

// serveExplain explains the verdict on one attacker, as JSON or, with format=text or
// where the client prefers it, as text.
func (a *api) serveExplain(w http.ResponseWriter, r *http.Request) {
	q, err := readQuery(r, "format", "raw")
	if err != nil {
		Fail(w, r, http.StatusBadRequest, err.Error())
		return
	}
	asText := strings.HasPrefix(r.Header.Get("Accept"), "text/plain")
	switch q.get("format") {
	case "":
	case "json":
		asText = false
	case "text":
		asText = true
	default:
		Fail(w, r, http.StatusBadRequest, "format must be json or text")
		return
	}
	raw, ok := q.boolean("raw")
	if !ok {
		Fail(w, r, http.StatusBadRequest, "raw must be true or false")
		return
	}
	id, ok := parseID(r.PathValue("uuid"))
	if !ok {
		Fail(w, r, http.StatusNotFound, "There is no such attacker: this is not a UUID")
		return
	}
	rec, err := a.store.Get(r.Context(), id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		Fail(w, r, http.StatusNotFound, "There is no attacker with this UUID")
		return
	case err != nil:
		a.unavailable(w, r, "cannot read a record", "attacker", id, "error", err)
		return
	}
	x := a.explain(r.Context(), &rec, raw)
	if asText {
		w.Header().Set("Content-Type", typeText)
		send(w, r, []byte(x.String()))
		return
	}
	a.sendJSON(w, r, x, "an explanation cannot be written as JSON", "attacker", id)
}
