package postgres

import "testing"

// TestAFreePortIsNobodysConnection: a port that is handed to a server which starts seconds later
// must not be one that the kernel gives to the next outgoing connection meanwhile.
func TestAFreePortIsNobodysConnection(t *testing.T) {
	below := ephemeralFrom()
	if below <= lowestFree+1000 {
		t.Skipf("outgoing connections begin at port %d here: there is no room below", below)
	}
	seen := map[int]bool{}
	for range 50 {
		port, err := FreePort("127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		if port < lowestFree || port >= below {
			t.Fatalf("port %d, outgoing connections begin at %d", port, below)
		}
		seen[port] = true
	}
	if len(seen) < 40 {
		t.Errorf("50 calls gave %d ports: two servers that start together would meet", len(seen))
	}
}
