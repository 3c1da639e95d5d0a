package main

func Example() {
	main()
	// Output:
	// 45.155.205.233 is malicious
	// mine: malicious map[ports:[22 2222]]
}
