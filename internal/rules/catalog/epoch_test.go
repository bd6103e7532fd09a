package catalog

import (
	"testing"
)

func TestSetEpochChangesNothingElse(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"block":   {"version: 1\npurposes: # all\n  - name: a\n    epoch: 1   # first\n  - name: b\n    epoch: 7\n", "version: 1\npurposes: # all\n  - name: a\n    epoch: 1   # first\n  - name: b\n    epoch: 8\n"},
		"flow":    {"version: 1\npurposes: [{name: a, epoch: 1}, {name: b, epoch: 7, basis: x}]\n", "version: 1\npurposes: [{name: a, epoch: 1}, {name: b, epoch: 8, basis: x}]\n"},
		"none":    {"version: 1\npurposes:\n  - name: b # ünï\n    basis: x\n", "version: 1\npurposes:\n  - name: b # ünï\n    epoch: 8\n    basis: x\n"},
		"no flow": {"version: 1\npurposes: [{name: b, basis: x}]\n", "version: 1\npurposes: [{name: b, epoch: 8, basis: x}]\n"},
	} {
		got, err := SetEpoch([]byte(c.in), "b", 8)
		if err != nil || string(got) != c.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for name, in := range map[string]string{"not there": "purposes: [{name: a}]\n", "no YAML": "\t:", "no list": "version: 1\n", "anchored": "purposes: [{name: b, epoch: &x 7}]\n"} {
		if got, err := SetEpoch([]byte(in), "b", 8); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
}
