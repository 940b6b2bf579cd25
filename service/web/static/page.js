// the command shown must work where the service is, not only at its default address
document.getElementById("origin").textContent = location.origin;
