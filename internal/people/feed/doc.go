// Package feed is the ranking service: it orders a surface's items with the operator's own
// tree model, keeps each answer, tells true reasons for it, and checks itself in production.
//
// The invariant it keeps: no answer leaves before it is stored with everything needed to give
// it again; without profiling, what features.yaml marks as personal is neutral before the
// model sees a row; a surface always serves a model that loaded whole, and says when its newest
// file did not. What the checks find becomes an incident in the access log.
//
// It implements DSA arts. 27 (parameters) and 38 (one way without profiling). It computes no
// features, trains nothing and stores no profile: the platform sends features with each request.
package feed
