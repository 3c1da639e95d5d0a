// Package abusech knows how the services of abuse.ch refuse a request.
package abusech

import (
	"errors"
	"net/http"
	"strings"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/rest"
)

// Refusal returns the error that an answer means by its query_status, whatever its
// HTTP status. It is nil for an answer without such a status, which is then judged
// by its HTTP status.
func Refusal(r *rest.Response) error {
	var body struct {
		Status rest.String `json:"query_status"`
		Error  rest.String `json:"error"`
	}
	if rest.Decode(r.Body, &body) != nil {
		return nil // a list, or nothing of abuse.ch's
	}
	var kind, why error
	switch status := strings.ToLower(body.Status.Value); {
	case status == "unknown_auth_key", status == "unauthorized", status == "no_api_key", status == "missing_auth_key",
		r.Status == http.StatusUnauthorized && body.Error.Value == "Unauthorized": // the key may be in the URL
		kind, why = provider.ErrUnauthorized, errors.New("the key is missing, wrong or revoked")
	case status == "ratelimited", status == "rate_limited":
		kind = provider.ErrRateLimited
	case status == "illegal_search_term":
		kind, why = provider.ErrUnsupported, errors.New("the service does not search for this address")
	default:
		return nil
	}
	e := r.StatusError()
	e.Kind, e.Err = kind, why
	return e
}
