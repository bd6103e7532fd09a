package gateway

import (
	"maps"
	"strings"
)

// releaseParams are the start-up parameters that a release-path client may set. They change
// how values look or how long a statement may take, never which values there are.
var releaseParams = map[string]bool{
	"application_name": true, "bytea_output": true, "client_encoding": true, "client_min_messages": true,
	"datestyle": true, "default_transaction_isolation": true, "default_transaction_read_only": true,
	"extra_float_digits": true, "geqo": true, "idle_in_transaction_session_timeout": true, "intervalstyle": true,
	"jit": true, "lock_timeout": true, "search_path": true, "standard_conforming_strings": true,
	"statement_timeout": true, "timezone": true, "xmloption": true,
}

// ActorParameter is the start-up parameter in which a service that serves people names the
// person behind a session. It is the authoriser's, and goes no further.
const ActorParameter = "trefoil.actor"

// wantsReplication reports whether a client asks for the replication protocol. Whatever is
// not plainly "no" asks for it.
func wantsReplication(params map[string]string) bool {
	for name, v := range params {
		if strings.EqualFold(name, "replication") {
			switch strings.ToLower(v) {
			case "", "false", "off", "no", "0", "f", "n":
			default:
				return true
			}
		}
	}
	return false
}

// upstream returns what the gateway sends to the server at start-up: the client's
// parameters as far as the path lets them through, the target's own over them.
func upstream(path Path, client map[string]string, t Target) (map[string]string, *refused) {
	out := map[string]string{}
	for name, value := range client {
		lower := strings.ToLower(name)
		switch {
		case lower == "user" || lower == "database" || lower == "replication" || lower == ActorParameter:
		case path == Service:
			out[name] = value
		case lower == "options":
			set, ok := splitOptions(value)
			if !ok {
				return nil, badParameter("options holds something other than -c name=value")
			}
			for n, v := range set {
				if !releaseParams[n] {
					return nil, badParameter("options sets a parameter that is not passed on to a dataset")
				}
				out[n] = v
			}
		case releaseParams[lower]:
			out[lower] = value
		default:
			return nil, badParameter("a start-up parameter is not passed on to a dataset")
		}
	}
	for name := range t.Startup { // names are not case-sensitive: the client's spelling must not win
		for have := range out {
			if strings.EqualFold(have, name) {
				delete(out, have)
			}
		}
	}
	maps.Copy(out, t.Startup)
	out["user"], out["database"] = t.Role, t.Database
	return out, nil
}

func badParameter(message string) *refused {
	r := refusal(stageOpen, "0A000", reasonParameter, message)
	r.Hint = "Allowed are application_name, client_encoding, DateStyle, IntervalStyle, TimeZone, extra_float_digits, search_path and time-outs."
	return r
}

// splitOptions reads a command-line options string as PostgreSQL does, as far as it sets
// parameters: -c name=value, -cname=value, --name=value; a backslash escapes.
func splitOptions(s string) (map[string]string, bool) {
	set := map[string]string{}
	words := optionWords(s)
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch {
		case w == "-c":
			i++
			if i == len(words) {
				return nil, false
			}
			w = words[i]
		case strings.HasPrefix(w, "--"):
			w = w[2:]
		case strings.HasPrefix(w, "-c"):
			w = w[2:]
		default:
			return nil, false
		}
		name, value, ok := strings.Cut(w, "=")
		if !ok || name == "" {
			return nil, false
		}
		set[strings.ToLower(strings.ReplaceAll(name, "-", "_"))] = value
	}
	return set, true
}

func optionWords(s string) []string {
	var words []string
	var w strings.Builder
	in := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+1 < len(s):
			i++
			w.WriteByte(s[i])
			in = true
		case c == ' ' || '\t' <= c && c <= '\r':
			if in {
				words = append(words, w.String())
				w.Reset()
			}
			in = false
		default:
			w.WriteByte(c)
			in = true
		}
	}
	if in {
		words = append(words, w.String())
	}
	return words
}
