package main

func Example() {
	main()
	// Output: attacker.intel.enriched: 45.155.205.233 is malicious: seen brute-forcing SSH
}
