module github.com/decnet/enrich/internal/integration

go 1.26.0

require (
	github.com/decnet/enrich v0.0.0
	github.com/google/uuid v1.6.0
)

replace github.com/decnet/enrich => ../../
